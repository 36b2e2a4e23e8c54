"""Query and retrieve over DIMSE: C-FIND, C-MOVE and C-GET as their provider.

`identifiers` reads and writes data sets, `finding` and `retrieving` are the operations,
`provider` makes an operation of a request and says who may ask. What is found is found
by `dicom_node.query`; messages go through `dicom_node.data_transfer`.
"""
