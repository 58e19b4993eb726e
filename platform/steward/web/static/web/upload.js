// The import form: reads the head of the chosen file here in the browser, proposes which column is which, and sends the
// file with its progress. Without this script the form still works; columns are then found by name only.
(() => {
  "use strict";
  const HEAD_BYTES = 65536;
  const form = document.getElementById("upload");
  if (!form) return;
  const [drop, input, mapping, table, problem, bar, go] = ["drop", "file", "mapping", "preview", "upload-problem", "upload-progress", "upload-go"].map((id) => document.getElementById(id));
  const fields = form.dataset.fields ? form.dataset.fields.split(",") : [];
  const subjects = form.dataset.subjects.split(",");

  const plain = (name) => name.trim().toLowerCase().replaceAll(/[ -]/g, "_");

  function say(text) {
    problem.textContent = text;
    problem.hidden = !text;
  }

  // Cells of delimited lines, with quotes; enough for a preview, the server's reader decides.
  function delimitedRows(text) {
    const first = text.split("\n", 1)[0];
    const delimiter = ["\t", ";", ","].reduce((best, each) => (first.split(each).length > first.split(best).length ? each : best), ",");
    const rows = [[""]];
    let isQuoted = false;
    for (let i = 0; i < text.length && rows.length < 6; i++) {
      const row = rows[rows.length - 1];
      const letter = text[i];
      if (letter === '"') {
        if (isQuoted && text[i + 1] === '"') row[row.length - 1] += text[++i];
        else isQuoted = !isQuoted;
      } else if (letter === delimiter && !isQuoted) row.push("");
      else if (letter === "\n" && !isQuoted) rows.push([""]);
      else if (letter !== "\r") row[row.length - 1] += letter;
    }
    rows.pop();
    const [header, ...cells] = rows;
    return { columns: header ?? [], rows: cells };
  }

  function jsonRows(text) {
    const objects = [];
    for (const line of text.split("\n").slice(0, 5)) {
      try {
        if (line.trim()) objects.push(JSON.parse(line));
      } catch {
        break; // the last line of the head may be cut; a bad line is the server's to report
      }
    }
    const columns = [...new Set(objects.flatMap((each) => Object.keys(each)))];
    return { columns, rows: objects.map((each) => columns.map((name) => (typeof each[name] === "string" ? each[name] : JSON.stringify(each[name] ?? "")))) };
  }

  function choices(name, title, columns, proposed, isOptional) {
    const field = document.createElement("div");
    field.className = "field";
    const label = document.createElement("label");
    label.htmlFor = `map-${name}`;
    label.textContent = title;
    const select = document.createElement("select");
    select.id = label.htmlFor;
    select.name = `map.${name}`;
    select.add(new Option(isOptional ? "none" : "choose a column", ""));
    for (const column of columns) select.add(new Option(column, column, false, column === proposed));
    field.append(label, select);
    return field;
  }

  function showMapping({ columns, rows }) {
    const byPlainName = new Map(columns.map((name) => [plain(name), name]));
    const target = document.getElementById("mapping-fields");
    target.replaceChildren(
      ...fields.map((name) => choices(name, `Field “${name}”`, columns, byPlainName.get(plain(name)), false)),
      choices("subject", "Person the row is about", columns, subjects.map((each) => byPlainName.get(each)).find(Boolean), true),
      choices("group", "Group for the split", columns, byPlainName.get("group"), true),
    );
    table.replaceChildren();
    const head = table.createTHead().insertRow();
    for (const column of columns) head.append(Object.assign(document.createElement("th"), { textContent: column }));
    const body = table.createTBody();
    for (const row of rows.slice(0, 3)) {
      const line = body.insertRow();
      for (const cell of row) line.insertCell().textContent = cell.length > 160 ? `${cell.slice(0, 160)}…` : cell;
    }
    mapping.hidden = columns.length === 0;
  }

  async function look(file) {
    say("");
    if (!file) return;
    const text = (await file.slice(0, HEAD_BYTES).text()).replace(/^\uFEFF/, "");
    showMapping(text.trimStart().startsWith("{") ? jsonRows(text) : delimitedRows(text));
  }

  function send() {
    const request = new XMLHttpRequest();
    const data = new FormData(form);
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRFToken", form.querySelector("[name=csrfmiddlewaretoken]").value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) bar.value = (100 * event.loaded) / event.total;
    });
    const stop = (text) => {
      say(text);
      bar.hidden = true;
      go.disabled = false;
    };
    request.addEventListener("error", () => stop("The connection broke off. Nothing was kept; try again."));
    request.addEventListener("load", () => {
      if (request.status === 401) return location.assign("/sign-in/");
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = { message: "The server did not take the file. Open the page again and try once more." };
      }
      if (request.status < 300 && answer.url) location.assign(answer.url);
      else stop(answer.message);
    });
    bar.hidden = false;
    go.disabled = true;
    say("");
    request.send(data);
  }

  input.addEventListener("change", () => look(input.files[0]));
  look(input.files[0]); // a file chosen before this script ran, or kept by the browser over a reload
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      look(input.files[0]);
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.files.length) return say("Choose a file first.");
    send();
  });
})();
