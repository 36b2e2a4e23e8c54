"""DICOMweb (PS3.18): search, retrieve, render and store over HTTP.

`app` puts the services together, `access` says who may use them, `negotiation` reads
what a client accepts. `dicom_node.query` finds, `dicom_node.receive` keeps.
"""
