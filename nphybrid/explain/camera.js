// A picture from the camera. Without a camera interface, as on most pages that were loaded over http, the button is
// hidden. The camera runs only while its preview is open.
function setUpCamera(open) {
  const [start, preview, video, take, stop, says] = ["start", "preview", "video", "take", "stop", "says"].map((name) =>
    document.getElementById(name === "says" ? "picture-says" : `camera-${name}`),
  );
  start.hidden = !navigator.mediaDevices?.getUserMedia;
  document.getElementById("camera-none").hidden = !start.hidden;
  says.tabIndex = -1;

  function close(text = "") {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    [preview.hidden, start.hidden, start.disabled, says.textContent] = [true, false, false, text];
    start.focus();
  }

  start.addEventListener("click", async () => {
    start.disabled = true;
    says.textContent = "Waiting for the camera \u2026";
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      // The reader or the browser can take back the permission, and a camera can be unplugged.
      video.srcObject.getTracks().forEach((track) => (track.onended = () => close("The camera has stopped.")));
      await video.play();
      says.textContent = "";
      [preview.hidden, start.hidden] = [false, true];
      take.focus();
    } catch (error) {
      close(`The camera cannot be used: ${error.message || error.name}`);
    }
  });
  take.addEventListener("click", () => {
    if (!video.srcObject) return; // a screen reader can press the button twice
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    close("The picture is taken.");
    says.focus({ preventScroll: true }); // a second press of the key does not start the camera again
    canvas.toBlob((blob) => open(new File([blob], "a picture of the camera", { type: "image/png" })));
  });
  stop.addEventListener("click", () => close());
}
