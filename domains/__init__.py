"""Domain packs: what Steward knows about healthcare, finance, law and any field added later.

A pack is a folder of data (see `domains.packs`). The code here reads packs strictly, maps records to chat messages,
makes the shipped synthetic sets and scores answers. It opens no network connection and evaluates nothing it reads:
a pack can name a generator, a metric or a conversion from a fixed registry and nothing else.

Example:
    >>> from domains.packs import load_pack
    >>> load_pack("healthcare").title
    'Healthcare'
"""
