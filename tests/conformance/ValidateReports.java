import com.pixelmed.validate.DicomSRValidator;

/**
 * Validates many reports in one Java machine, so that the templates compile once; checks
 * the order of content items and template identifiers too.
 */
public class ValidateReports {
    public static void main(String[] paths) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String path : paths) {
            System.out.println("File " + path);
            System.out.println(validator.validate(path, false, true, false, true, true));
        }
    }
}
