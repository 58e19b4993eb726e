// The chat box: one message goes to both models, each answer streams into its own lane. The conversation lives here only.
(() => {
  "use strict";
  const box = document.getElementById("chat");
  if (!box) return;
  const form = document.getElementById("chat-form");
  const text = document.getElementById("chat-text");
  const system = document.getElementById("chat-system");
  const token = box.querySelector("[name=csrfmiddlewaretoken]").value;
  const lanes = [...box.querySelectorAll(".lane")].map((element) => ({
    model: element.dataset.model,
    turns: element.querySelector(".turns"),
    state: element.querySelector(".lane-state"),
    messages: [],
  }));
  let hasStarted = false;
  let isBusy = false;

  const post = (address, body) =>
    fetch(address, { method: "POST", body, headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": token } });

  function addTurn(lane, role, words) {
    const turn = Object.assign(document.createElement("div"), { className: `turn ${role}`, textContent: words });
    lane.turns.append(turn);
    lane.turns.scrollTop = lane.turns.scrollHeight;
    return turn;
  }

  async function problemOf(answer) {
    try {
      return (await answer.json()).message;
    } catch {
      return "The model cannot answer now.";
    }
  }

  async function ask(lane) {
    lane.state.textContent = "thinking …";
    const began = performance.now();
    const turn = addTurn(lane, "assistant", "");
    const messages = system.value.trim() ? [{ role: "system", content: system.value }, ...lane.messages] : lane.messages;
    const answer = await post(box.dataset.answer, JSON.stringify({ model: lane.model, messages }));
    if (!answer.ok) throw Object.assign(new Error(await problemOf(answer)), { turn });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const piece = JSON.parse(line);
        if (piece.error) throw Object.assign(new Error(piece.error), { turn });
        turn.textContent += piece.text;
      }
      lane.turns.scrollTop = lane.turns.scrollHeight;
    }
    lane.messages.push({ role: "assistant", content: turn.textContent });
    lane.state.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  }

  async function send() {
    const words = text.value.trim();
    if (!words || isBusy) return;
    isBusy = true;
    form.querySelector(".primary").disabled = true;
    text.value = "";
    if (!hasStarted) {
      const opened = await post(box.dataset.start, "");
      if (!opened.ok) addTurn(lanes[0], "error", await problemOf(opened));
      hasStarted = opened.ok;
    }
    // One after the other: both share one process, and so each has its full speed.
    for (const lane of hasStarted ? lanes : []) {
      lane.messages.push({ role: "user", content: words });
      addTurn(lane, "user", words);
    }
    for (const lane of hasStarted ? lanes : []) {
      try {
        await ask(lane);
      } catch (error) {
        lane.messages.pop();
        lane.state.textContent = "";
        error.turn?.remove();
        addTurn(lane, "error", error.turn ? error.message : "The connection broke off. Ask again.");
      }
    }
    isBusy = false;
    form.querySelector(".primary").disabled = false;
    text.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  document.getElementById("chat-clear").addEventListener("click", () => {
    for (const lane of lanes) {
      lane.messages = [];
      lane.turns.replaceChildren();
      lane.state.textContent = "";
    }
  });
})();
