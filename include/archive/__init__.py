"""A stock archive: images that no event announced. Found, selected and planned here, then queued as batches like any other."""
