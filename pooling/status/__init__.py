"""What goes on in this process and in all the others, for those who watch a site.

`here` describes this process, `publisher` tells the store, `fleet` puts together what all have told.
"""
