"""Measure imgfs against its peers and against the limits of the machine.

    __main__    the command line
    turns       contenders that take turns; medians, ratios
    running     measure one command or function; memory and bytes written of daemons
    images      the images and stores that every area uses, made once and kept
    mounting    a store mounted for a measurement
    peers       the other tools, if they are installed
    printing    tables: as text, as JSON, as Markdown
    results     what an area returns: contests, and rows with their goals

and one module for each area, as `__main__` lists them.
"""
