"""A network as a plain list of calculations, made when a bundle is packed.

`graph` reads and checks it, `operators` is the table of what it may calculate, `freeze`
makes it of a Keras network. It is data: names from a table, small numbers and arrays.
`models.runtimes` turns it into the form that a runtime takes, so that no C++ parser
ever reads a byte that came with a bundle.
"""
