import subprocess
import sys
from pathlib import Path

from pydicom import Dataset

from tests.reports import analysed, context, finding, radiograph, region
from worker.report.sr import build_report
from worker.report.text import TextNode, report_lines, report_tree


def item(value_type: str, meaning: str = "Thing", **attributes: object) -> Dataset:
    name = Dataset()
    name.CodeMeaning = meaning
    content = Dataset()
    content.ValueType = value_type
    content.ConceptNameCodeSequence = [name]
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return content


def tree_of(child: Dataset) -> TextNode:
    return report_tree(item("CONTAINER", "Root", ContentSequence=[child])).children[0]


def test_a_report_reads_as_indented_lines() -> None:
    source = radiograph()
    reading = analysed(finding(0.8725, source, regions=(region(source),)))

    lines = report_lines(build_report(reading, [source], context()))

    assert lines[0] == "Imaging Measurement Report: COMPLETE, UNVERIFIED"
    assert "      Probability: 87.25 %" in lines
    assert "      Threshold Value: 50 %" in lines
    assert "      Pneumonia: Present" in lines
    assert "        Laterality: Right" in lines
    assert "      Image Region: POLYLINE, 5 points" in lines
    assert "        Pixel Data Rows: 2048 pixels" in lines


def test_a_tree_can_be_rendered_as_well_as_a_report() -> None:
    tree = TextNode("Root", None, (TextNode("Probability", "3 %"),))

    assert report_lines(tree) == ("Root", "  Probability: 3 %")


def test_an_item_without_a_name_is_called_by_its_relationship() -> None:
    image = item("IMAGE", RelationshipType="SELECTED FROM")
    del image.ConceptNameCodeSequence
    target = Dataset()
    target.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    target.ReferencedSOPInstanceUID = "1.2.3"
    target.ReferencedFrameNumber = 4
    image.ReferencedSOPSequence = [target]

    node = tree_of(image)

    assert node == TextNode("Selected from", "CT Image Storage 1.2.3, frame 4")


def test_a_number_without_value_shows_its_reason() -> None:
    reason = Dataset()
    reason.CodeMeaning = "Measurement failure"
    number = item("NUM", NumericValueQualifierCodeSequence=[reason])
    number.MeasuredValueSequence = []

    assert tree_of(number).value == "Measurement failure"


def test_a_reference_to_another_item_shows_its_position() -> None:
    by_reference = Dataset()
    by_reference.RelationshipType = "INFERRED FROM"
    by_reference.ReferencedContentItemIdentifier = [1, 2]

    assert tree_of(by_reference).value == "see item [1, 2]"


def test_an_item_without_value_says_so() -> None:
    assert tree_of(item("TEXT")).value == "(no value)"


def test_text_of_a_report_cannot_steer_a_terminal() -> None:
    text = item("TEXT", TextValue="red \x1b[31m\nalert")

    assert tree_of(text).value == "red  [31m alert"


def test_reading_a_report_does_not_load_what_writes_it() -> None:
    program = "import sys, worker.report.text; sys.exit('highdicom' in sys.modules)"

    run = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False
    )

    assert run.returncode == 0
