"""Looking inside: what a picture becomes on its walk through the network, as a page and as figures.

    measures      rollout, attention distance, position similarity, logit lens, occlusion
    colours       scales that everyone can read

    page          the interactive page: `nphybrid explain`
    scene         what it shows, out of one walk
    words         what it says differently from network to network
    source        Python as HTML
    page.html, page.css, page.js, convolution.js, overview.js     the frame, and what its steps share
    steps/        a step each: what is said (.html), what is drawn and touched (.js)

    figures       seven figures at print quality, a function each: `nphybrid figures`
    drawing       sheets, text, maps, colour bars, axes, for print
    reading       what the figures read of a picture and a walk
"""
