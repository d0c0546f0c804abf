"""Work on a whole survey, cut into fragments: by this process, by several, or by a Dask cluster; resumable, and each
object answered exactly once.

:func:`gsnn.spread.predict.predict` and :func:`gsnn.spread.ingest.ingest` cut the work; ``engines`` carry it out;
``fragments`` remember what is done.
"""
