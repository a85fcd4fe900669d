"""Near-duplicates: MinHash proposes pairs of rows, the true Jaccard similarity decides."""
