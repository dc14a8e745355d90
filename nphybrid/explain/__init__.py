"""Looking inside: what a picture becomes on its walk through the network, as a page and as figures.

    measures    rollout, attention distance, position similarity, logit lens, occlusion
    colours     two scales that everyone can read
"""
