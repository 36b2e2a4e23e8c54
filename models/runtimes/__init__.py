"""What a network runs in: TensorFlow, or LiteRT or ONNX Runtime where they agree.

`seam` says what each must offer, `choice` decides between them. TensorFlow serves every
bundle; the others serve what a bundle's frozen graph holds, and only after they gave
the golden cases' answers.
"""
