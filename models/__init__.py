"""What a model is and how it is made: packages, their checks, their way to a finding.

Importing this room, its `bundle` and its `catalogue` stays light; only `runtime`,
`evaluation`, `pack` and `training` come to need TensorFlow, when they are used.
"""
