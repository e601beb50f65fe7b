"""Views over the stream of events: each folds the same events into what one kind of reader wants.

In: events. Out: text on a stream. Touches: the stream it is given.
"""
