// The page of -display web: shows the picture, sends keys and the mouse, and is a small terminal for the serial port.
"use strict";

const $ = (id) => document.getElementById(id);
const canvas = $("screen");
const context = canvas.getContext("2d", { alpha: false });
const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[#?].*$/, "") + "ws");
socket.binaryType = "arraybuffer";
// For tests, and for the curious.
const seen = (window.retrograde = { frames: 0, state: "connecting", serial: () => terminal.text() });

function say(line) {
  if (socket.readyState === WebSocket.OPEN) socket.send(line);
}

function status(text) {
  seen.state = text;
  $("status").textContent = text;
}

socket.onopen = () => { status("running"); say("r"); canvas.focus(); };
socket.onclose = () => status("the connection has ended");
socket.onmessage = (event) => {
  if (typeof event.data === "string") {
    status(event.data);
    const paused = event.data === "paused";
    $("pause").textContent = paused ? "Continue" : "Pause";
    $("pause").setAttribute("aria-pressed", paused);
    return;
  }
  const bytes = new Uint8Array(event.data);
  if (bytes[0] === 1) {
    draw(event.data);
    seen.frames++;
    // The next picture when this one is on the screen; a page in the background is shown none.
    requestAnimationFrame(() => say("r"));
  } else if (bytes[0] === 2) {
    terminal.write(bytes.subarray(1));
    // A guest that shows nothing talks there.
    if (!seen.talked && dark()) showConsole(true);
    seen.talked = true;
  }
};

function dark() {
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return new Uint32Array(pixels.buffer).every((pixel) => (pixel & 0xffffff) === 0);
}

function draw(buffer) {
  const view = new DataView(buffer);
  let at = 1;
  const word = () => { const value = view.getUint16(at, true); at += 2; return value; };
  const [width, height, count] = [word(), word(), word()];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  for (let n = 0; n < count; n++) {
    const [x, y, w, h] = [word(), word(), word(), word()];
    const pixels = new Uint8ClampedArray(buffer, at, 4 * w * h);
    at += 4 * w * h;
    context.putImageData(new ImageData(pixels, w, h), x, y);
  }
}

// Keyboard: keys as they lie, whatever is printed on them.
canvas.addEventListener("keydown", (event) => {
  event.preventDefault();
  say(`k ${event.code} 1`);
});
canvas.addEventListener("keyup", (event) => {
  event.preventDefault();
  // Browsers tell of this key's release only.
  if (event.code === "PrintScreen") say("k PrintScreen 1");
  say(`k ${event.code} 0`);
});
canvas.addEventListener("blur", () => say("z"));
window.addEventListener("blur", () => say("z"));

// Mouse: how far it moves, once the guest has it; several movements of a frame in one message.
const moved = { x: 0, y: 0, z: 0, due: false };
function flushMouse(buttons) {
  moved.due = false;
  say(`m ${Math.round(moved.x)} ${Math.round(moved.y)} ${moved.z} ${buttons & 31}`);
  moved.x = moved.y = moved.z = 0;
}
const hasMouse = () => document.pointerLockElement === canvas;
canvas.addEventListener("mousedown", (event) => {
  event.preventDefault();
  canvas.focus();
  if (hasMouse()) flushMouse(event.buttons);
  else canvas.requestPointerLock();
});
canvas.addEventListener("mouseup", (event) => { if (hasMouse()) flushMouse(event.buttons); });
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("mousemove", (event) => {
  if (!hasMouse()) return;
  const scale = canvas.width / canvas.clientWidth || 1;
  moved.x += event.movementX * scale;
  moved.y += event.movementY * scale;
  if (!moved.due) {
    moved.due = true;
    requestAnimationFrame(() => { if (moved.due) flushMouse(event.buttons); });
  }
});
canvas.addEventListener("wheel", (event) => {
  if (!hasMouse()) return;
  event.preventDefault();
  moved.z += Math.sign(event.deltaY);
  flushMouse(event.buttons);
}, { passive: false });
document.addEventListener("pointerlockchange", () => {
  if (!hasMouse()) say("m 0 0 0 0");
  $("hint").hidden = hasMouse();
});

// Buttons.
$("pause").onclick = () => { say(seen.state === "paused" ? "c resume" : "c pause"); canvas.focus(); };
$("reset").onclick = () => { say("c reset"); canvas.focus(); };
$("powerdown").onclick = () => { say("c powerdown"); canvas.focus(); };
$("cad").onclick = () => { say("x ctrl-alt-delete"); canvas.focus(); };
$("full").onclick = async () => {
  await canvas.requestFullscreen();
  // Where the browser can, it leaves the guest keys like Alt-Tab and Esc.
  if (navigator.keyboard && navigator.keyboard.lock) navigator.keyboard.lock().catch(() => {});
  canvas.focus();
};
function showConsole(shown) {
  $("serial").hidden = !shown;
  $("console").setAttribute("aria-pressed", shown);
  if (shown) { terminal.show(); $("serial").focus(); }
}
$("console").onclick = () => showConsole($("serial").hidden);

// The serial console: a terminal of 80 columns and 24 rows with a past.
class Terminal {
  constructor(element, send) {
    Object.assign(this, { element, send, columns: 80, rows: 24, keep: 2000, due: false });
    this.decoder = new TextDecoder();
    this.reset();
  }

  reset() {
    this.lines = [[]];
    this.top = 0;          // the first row of the screen in lines
    this.x = this.y = 0;
    this.saved = [0, 0];
    this.state = "text";
    this.parameters = "";
  }

  text() {
    return this.lines.map((line) => Array.from(line, (c) => c || " ").join("").trimEnd()).join("\n");
  }

  write(bytes) {
    for (const c of this.decoder.decode(bytes, { stream: true })) this.take(c);
    if (!this.due) {
      this.due = true;
      requestAnimationFrame(() => this.show());
    }
  }

  take(c) {
    const code = c.codePointAt(0);
    switch (this.state) {
      case "escape":
        this.state = "text";
        if (c === "[") { this.state = "sequence"; this.parameters = ""; }
        else if (c === "]") this.state = "string";
        else if ("()#%".includes(c)) this.state = "skip";
        else if (c === "7") this.saved = [this.x, this.y];
        else if (c === "8") [this.x, this.y] = this.saved;
        else if (c === "c") this.reset();
        else if (c === "M") this.y = Math.max(0, this.y - 1);
        return;
      case "skip":
        this.state = "text";
        return;
      case "string":
        if (code === 7) this.state = "text";
        if (code === 27) this.state = "skip";
        return;
      case "sequence":
        if (code >= 0x40 && code <= 0x7e) {
          this.state = "text";
          this.control(c);
        } else if (this.parameters.length < 64) this.parameters += c;
        return;
    }
    if (code === 27) this.state = "escape";
    else if (c === "\r") this.x = 0;
    else if (c === "\n" || code === 11 || code === 12) this.down();
    else if (c === "\b") this.x = Math.max(0, this.x - 1);
    else if (c === "\t") this.x = Math.min(this.columns - 1, (this.x | 7) + 1);
    else if (code >= 32 && code !== 127) this.put(c);
  }

  line() {
    while (this.lines.length <= this.top + this.y) this.lines.push([]);
    return this.lines[this.top + this.y];
  }

  put(c) {
    if (this.x >= this.columns) { this.x = 0; this.down(); }
    this.line()[this.x++] = c;
  }

  down() {
    if (this.y + 1 < this.rows) this.y++;
    else this.top++;
    this.line();
    if (this.lines.length > this.keep) {
      const gone = this.lines.length - this.keep;
      this.lines.splice(0, gone);
      this.top -= gone;
    }
  }

  control(c) {
    const numbers = this.parameters.replace(/^[?>=]/, "").split(";").map((n) => parseInt(n, 10) || 0);
    const first = numbers[0] || 1;
    const within = (n, end) => Math.min(Math.max(n, 0), end - 1);
    switch (c) {
      case "A": this.y = within(this.y - first, this.rows); break;
      case "B": this.y = within(this.y + first, this.rows); break;
      case "C": this.x = within(this.x + first, this.columns); break;
      case "D": this.x = within(this.x - first, this.columns); break;
      case "G": this.x = within(first - 1, this.columns); break;
      case "d": this.y = within(first - 1, this.rows); break;
      case "H": case "f":
        this.y = within(first - 1, this.rows);
        this.x = within((numbers[1] || 1) - 1, this.columns);
        break;
      case "J":
        if (numbers[0] === 2 || numbers[0] === 3) {
          for (let y = 0; y < this.rows; y++) if (this.lines[this.top + y]) this.lines[this.top + y] = [];
        } else if (numbers[0] === 0) {
          this.line().length = Math.min(this.line().length, this.x);
          this.lines.length = this.top + this.y + 1;
        }
        break;
      case "K": {
        const line = this.line();
        if (numbers[0] === 0) line.length = Math.min(line.length, this.x);
        else if (numbers[0] === 1) line.fill(" ", 0, this.x + 1);
        else line.length = 0;
        break;
      }
      case "P": this.line().splice(this.x, first); break;
      case "@": this.line().splice(this.x, 0, ...Array(Math.min(first, this.columns)).fill(" ")); break;
      case "n": if (numbers[0] === 6) this.send(`\x1b[${this.y + 1};${this.x + 1}R`); break;
      // Colours and modes are passed over.
    }
  }

  show() {
    this.due = false;
    if (this.element.hidden) return;
    const row = this.top + this.y;
    const text = (line) => Array.from(line, (c) => c || " ").join("");
    const before = this.lines.slice(0, row).map((line) => text(line) + "\n").join("");
    const line = this.lines[row] || [];
    const cursor = document.createElement("span");
    cursor.className = "cursor";
    cursor.textContent = line[this.x] || " ";
    const pad = " ".repeat(Math.max(0, this.x - line.length));
    const after = text(line.slice(this.x + 1)) + this.lines.slice(row + 1).map((l) => "\n" + text(l)).join("");
    this.element.replaceChildren(before + text(line.slice(0, this.x)) + pad, cursor, after);
    this.element.scrollTop = this.element.scrollHeight;
  }
}

const terminal = new Terminal($("serial"), (text) => say("s " + text));
const KEYS = {
  Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Insert: "\x1b[2~", Home: "\x1b[H", End: "\x1b[F",
  PageUp: "\x1b[5~", PageDown: "\x1b[6~", ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D",
};
$("serial").addEventListener("keydown", (event) => {
  let text = KEYS[event.key];
  if (text === undefined && event.key.length === 1 && !event.metaKey) {
    text = event.key;
    if (event.ctrlKey) {
      // Ctrl-V and Ctrl-C with Shift are the browser's.
      if (event.shiftKey) return;
      const code = text.toUpperCase().charCodeAt(0);
      text = code >= 64 && code < 96 ? String.fromCharCode(code & 31) : undefined;
    } else if (event.altKey) text = "\x1b" + text;
  }
  if (text === undefined) return;
  event.preventDefault();
  terminal.send(text);
});
$("serial").addEventListener("paste", (event) => {
  event.preventDefault();
  terminal.send(event.clipboardData.getData("text").replace(/\r?\n/g, "\r"));
});
