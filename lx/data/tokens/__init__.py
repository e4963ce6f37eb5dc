"""Token ids: ``tokenizer`` trains and encodes, ``recipes`` has the kinds of tokenizer, ``table`` stores the ids."""
