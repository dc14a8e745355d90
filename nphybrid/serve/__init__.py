"""A small HTTP server that classifies pictures, for a browser and for programs.

    GET /              a page on which people drop pictures
    GET /health        {"status": "ok", "version": "…", "model": "…", "classes": 10, "formats": ["JPEG", …]}
    POST /classify     the labels of pictures, as JSON
    POST /explain      the page of `nphybrid explain` about one picture, as HTML

The body of a POST request is one picture file, or a form (multipart/form-data) with one or several picture files. For
one picture as the body, the answer of /classify is one row. For a form, the answer is a list of rows. The rows are
those of `nphybrid classify --format json`. The status of /classify is 200 if at least one picture has labels. Otherwise
it is 422, or 503 if there was not enough memory.

Each refused request gets a status from 400 to 503 and a JSON object {"error": "…"}. The clients are not trusted. The
file `limits` lists the limits on size, count and time. A request is refused if its Host or Origin is not an address of
this server, so a foreign web page can neither send requests nor read answers. No picture and no result is written to
disk.

`forms` reads multipart/form-data.
`addresses` knows the Hosts and Origins that are accepted.
`decoder` decodes pictures in a process of its own.
`service` computes the answers with a model.
`worker` is the thread that computes.
`files` are the files of the page.
`handler` reads a request and writes the answer.
`server` accepts connections.

`limits` defines the limits and the error of a refused request.  A module in this list imports from the list only
`limits` and the modules above it.
"""
