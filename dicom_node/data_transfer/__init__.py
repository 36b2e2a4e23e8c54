"""An association after its negotiation: from a socket's bytes to a kept instance.

pynetdicom negotiates; from the A-ASSOCIATE-AC on, PS3.8 calls it the data transfer
phase, everything is here. `protocol` turns bytes into events and needs no socket,
`command_set` reads requests and writes responses, `services` says what each request is
answered, `session` joins them on a socket, and `takeover` gets it from pynetdicom.
"""
