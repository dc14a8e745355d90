"""The inside of a network that reads a picture, as an interactive page and as figures.

    measures      rollout, attention distance, position similarity, logit lens, occlusion
    colours       colour scales that readers with a colour-vision deficiency can read

    page          the interactive page: `nphybrid explain`
    scene         the facts and arrays of the page, from one forward pass
    sentences     the sentences of the page that depend on the network
    source        Python source as HTML
    page.html, page.css, *.js    the frame and the style of the page, and the scripts that all steps share
    steps/        two files per step: the text (.html) and the script (.js)

    figures       seven figures at print quality, one function each: `nphybrid figures`
    drawing       sheets, text, maps, colour bars and axes, for print
    reading       the prepared picture, the states and the token that the figures show
"""
