"""The steps of a study, one file each: data, train, evaluate, explain. ``gsnn.run`` walks through them."""
