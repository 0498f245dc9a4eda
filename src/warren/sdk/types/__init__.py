"""Wire types of the HTTP API: what clients send and receive, one module per area.

`Wire` objects always have all their keys; `Sparse` ones leave out keys that hold their default.
"""
