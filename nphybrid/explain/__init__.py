"""Shows what happens inside a network for one picture, as an interactive page and as figures.

`measures` computes rollout, attention distance, position similarity, the logit lens, occlusion and saliency.
`colours` has colour scales that readers with a colour-vision deficiency can read.

`page` writes the interactive page of `nphybrid explain`.
`scene` runs one forward pass, and collects the facts and arrays that the page shows.
`inside` has the arrays of the steps about the inside of a block of the encoder, and `unit` the maps inside a residual
unit.
`sentences` writes the sentences of the page that depend on the network.
`source` shows Python source as HTML, and `shapes` finds the shapes beside it.
`page.html` and `page.css` are the frame and the style of the page.
`*.js` are scripts that all steps of the page share.
`steps` has two files for each step of the page: the text (.html) and the script (.js).
`worker` writes a small network into its page, and `network` has the forward pass in JavaScript. So the page can
compute the network for another picture, and `page` can put several pictures into it.

`figures` draws the figures of `nphybrid figures` at print quality.
`drawing` draws sheets, text, maps, colour bars and axes for print.
`reading` prepares the picture, the intermediate states and the token that a figure shows.
"""
