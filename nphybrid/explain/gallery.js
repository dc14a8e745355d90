// The pictures of the page, as buttons. Only pages that compute the network have several pictures.
// `open(name, request, details)` computes the network for a picture, and `goBack()` shows the first picture again.
function setUpGallery(open, goBack) {
  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  facts.pictures.forEach(({ name, shape, picture, resized }, i) => {
    const poster = i ? document.getElementById(`poster-${i}`) : posterImage;
    const button = element("button", { type: "button" }, element("img", { src: poster.src, alt: "" }), name);
    const show = () => {
      const at = numbers[`picture-${i}`].at;
      const data = Uint8Array.from({ length: shape[0] * shape[1] * shape[2] }, (_, k) => at(k));
      return open(name, { pixels: { shape, data } }, { poster, picture, resized });
    };
    button.addEventListener("click", () => inOrder(i ? show : goBack));
    views.push(() => button.setAttribute("aria-pressed", String(posterImage === poster)));
    gallery.append(button);
  });
}
