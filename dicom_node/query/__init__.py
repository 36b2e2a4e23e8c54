"""What is here and what is asked for, whoever asks: DICOMweb or DIMSE.

`stored_files` and `frames` read the store's files, `json_model` writes DICOM JSON,
`cataloguer` fills the catalogue, `matching` compares, `search` finds. Nothing in here
knows a protocol.
"""
