"""Times imgfs against its peers and against the limits of the machine.

    __main__    the command line
    turns       contenders, run by turns; medians, ratios
    running     one command or piece of work, measured; what daemons hold and write
    images      the images and stores that everything is tried on, made once and kept
    mounting    a store mounted for measuring
    peers       the other tools, as far as they are here
    printing    tables: for people, as JSON, as Markdown
    results     what an area hands back: contests, and rows with their goals

and a module an area: reading, names, loading, saving, startup, commit.
"""
