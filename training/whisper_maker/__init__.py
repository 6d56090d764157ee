"""Makes the bundled speech recogniser from nothing: text, speech, training, export, evaluation.

Each module is one step or one idea; `__main__` puts the steps on a command line. Nothing here is used when the model
runs: that is the host's business.
"""
