// A picture from the camera. Without a camera interface, as on most pages that were loaded over http, the button is
// hidden. The camera runs only while its preview is open.
function setUpCamera(open) {
  const [start, preview, video, take, stop, says] = ["start", "preview", "video", "take", "stop", "says"].map((name) =>
    document.getElementById(name === "says" ? "picture-says" : `camera-${name}`),
  );
  start.hidden = !navigator.mediaDevices?.getUserMedia;
  document.getElementById("camera-none").hidden = !start.hidden;

  function close() {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    [preview.hidden, start.hidden, start.disabled] = [true, false, false];
    start.focus();
  }

  start.addEventListener("click", async () => {
    start.disabled = true;
    says.textContent = "Waiting for the camera \u2026";
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
      says.textContent = "";
      [preview.hidden, start.hidden] = [false, true];
      take.focus();
    } catch (error) {
      close();
      says.textContent = `The camera cannot be used: ${error.message || error.name}`;
    }
  });
  take.addEventListener("click", () => {
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    close();
    canvas.toBlob((blob) => open(new File([blob], "a picture of the camera", { type: "image/png" })));
  });
  stop.addEventListener("click", close);
}
