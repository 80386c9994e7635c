"""The front door for Python: pictures in any form in, labels that can be looked at and handed on out. Starts no Ray."""
