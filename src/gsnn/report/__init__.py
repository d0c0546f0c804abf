"""Step 5: one self-contained page a run.

``page.write(run)`` writes report.html, ``card.write(run)`` card.md, ``page.html_snippet(run)`` is for notebooks,
``survey.survey_page(...)`` is one page of pictures of a survey. Figures are functions of data in ``figures``.
"""
