"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const at = (id) => document.getElementById(id);
  const MINUS = "\u2212", PAGE = 200;

  /* ---- colours: as the system has them, light, dark ---- */
  const themes = { auto: "as the system has them", light: "light", dark: "dark" };
  const stored = () => { try { return localStorage.getItem("tunesmith-theme"); } catch { return null; } };
  const setTheme = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    at("theme").textContent = `Colours: ${name}`;
    at("theme").title = `Colours ${themes[name]}`;
    // a page opened from disk may have no storage; the choice then lasts as long as the page
    try { localStorage.setItem("tunesmith-theme", name); } catch { /* nothing to keep it in */ }
  };
  let theme = stored() in themes ? stored() : "auto";
  setTheme(theme);
  at("theme").addEventListener("click", () => {
    const names = Object.keys(themes);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    setTheme(theme);
  });

  /* ---- what is folded in must be on paper ---- */
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));

  /* ---- building elements; text only ever through textContent ---- */
  const make = (name, options = {}, ...children) => {
    const { text, ...attributes } = options;
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    element.append(...children);
    return element;
  };
  const swatch = (candidate) => {
    const drawn = document.querySelectorAll(".candidates tbody tr")[candidate];
    return drawn ? drawn.querySelector(".who svg").cloneNode(true) : "";
  };
  const fixed = (value, decimals) => {
    if (value === null || value === undefined) return "\u2013";
    const text = Math.abs(value).toFixed(decimals);
    return value < 0 && Number(text) ? MINUS + text : text;
  };
  const signed = (value, decimals) => {
    const text = fixed(value, decimals);
    return value > 0 && Number(text) ? `+${text}` : text;
  };
  const text = (place) => data.texts[place];

  /* ---- n-grams in common, as ROUGE counts them: each word of the reference is used once ---- */
  const UNSPACED = "\\p{sc=Han}\\p{sc=Hiragana}\\p{sc=Katakana}\\p{sc=Thai}";
  const WORD = new RegExp(`[${UNSPACED}]|(?:(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}])+`, "gu");
  const words = (string) => [...string.matchAll(WORD)].map((found) => (
    { word: found[0].toLowerCase(), start: found.index, end: found.index + found[0].length }));
  const counts = (keys) => keys.reduce((bag, key) => bag.set(key, (bag.get(key) || 0) + 1), new Map());
  const take = (bag, key) => {
    const left = bag.get(key) || 0;
    if (left) bag.set(key, left - 1);
    return left > 0;
  };
  const pairs = (list) => list.slice(1).map((one, i) => `${list[i].word} ${one.word}`);
  const matches = (answer, reference) => {
    const bag = counts(pairs(reference)), single = counts(reference.map((one) => one.word));
    const joined = pairs(answer).map((pair) => take(bag, pair));  // joined[i]: words i and i + 1 are a shared bigram
    const level = answer.map((one, i) => (joined[i] || (i > 0 && joined[i - 1]) ? 2 : 0));
    answer.forEach((one, i) => { if (level[i] === 2) take(single, one.word); });
    answer.forEach((one, i) => { if (!level[i] && take(single, one.word)) level[i] = 1; });
    const shared = level.filter(Boolean).length;
    return { level, joined, f: shared ? 2 * shared / (answer.length + reference.length) : 0 };
  };
  const highlighted = (string, references) => {
    const answer = words(string);
    const best = references.map((one) => matches(answer, words(one))).reduce((a, b) => (b.f > a.f ? b : a), { f: -1, level: [], joined: [] });
    const box = make("div", { class: "text" });
    let done = 0;
    for (let i = 0; i < answer.length; i += 1) {
      if (!best.level[i]) continue;
      let last = i;
      while (best.joined[last]) last += 1;
      box.append(string.slice(done, answer[i].start));
      box.append(make("mark", { class: `n${best.level[i]}`, text: string.slice(answer[i].start, answer[last].end) }));
      done = answer[last].end;
      i = last;
    }
    box.append(string.slice(done));
    return box;
  };

  /* ---- the browser ---- */
  if (!data.tasks.length || !data.candidates.length) { document.documentElement.dataset.script = "ready"; return; }
  const state = { task: data.tasks[0], order: [], place: 0, shown: PAGE };
  const fill = (id, names) => at(id).replaceChildren(...names.map((name, i) => make("option", { value: String(i), text: name })));
  const answer = (row, candidate) => row[4][candidate];
  const score = (row, candidate, metric) => (answer(row, candidate) ? answer(row, candidate)[5][metric] ?? null : null);
  const chosen = () => ({ metric: Number(at("metric").value), from: Number(at("from").value), to: Number(at("to").value) });
  const change = (row, { metric, from, to }) => {
    const before = score(row, from, metric), after = score(row, to, metric);
    return before === null || after === null ? null : after - before;
  };
  const haystack = (row) => [row[0], text(row[2]), ...row[1].map((turn) => text(turn[1])), ...row[3].map(text),
    ...row[4].filter(Boolean).map((one) => text(one[0]))].join("\n").toLowerCase();

  const changeLabel = (value, metric) => {
    const facts = state.task.metrics[metric];
    if (value === null || !facts) return make("span", { class: "change", text: "\u2013" });
    const better = { higher: value, lower: -value, neither: 0 }[facts.better];
    const side = better > 0 ? "change up" : better < 0 ? "change down" : "change";
    return make("span", { class: side, text: signed(value, facts.decimals) });
  };

  const sort = () => {
    const pick = chosen(), facts = state.task.metrics[pick.metric], wanted = at("filter").value.trim().toLowerCase();
    const rows = state.task.rows
      .map((row, number) => ({ row, number, change: change(row, pick) }))
      .filter(({ row }) => !wanted || haystack(row).includes(wanted));
    const gain = (one) => (one.change === null ? null : facts.better === "lower" ? -one.change : one.change);
    const keys = { loss: gain, gain: (one) => (one.change === null ? null : -gain(one)), size: (one) => (one.change === null ? null : -Math.abs(one.change)) };
    const key = facts && keys[at("order").value];
    if (key) rows.sort((a, b) => (key(a) ?? Infinity) - (key(b) ?? Infinity) || a.number - b.number);
    state.order = rows;
  };

  const drawList = () => {
    const { metric } = chosen();
    const items = state.order.slice(0, state.shown).map((one, place) => {
      const button = make("button", { type: "button", "data-place": String(place) },
        make("span", { class: "snippet", text: text(one.row[3][0] ?? one.row[2]) }), changeLabel(one.change, metric),
        make("small", { class: "where", text: one.row[0] }));
      if (place === state.place) button.setAttribute("aria-current", "true");
      return make("li", {}, button);
    });
    at("list").replaceChildren(...items);
    at("more").hidden = state.order.length <= state.shown;
    const total = state.task.rows.length, found = state.order.length;
    at("found").textContent = found === total ? `${total} examples` : `${found} of ${total} examples`;
  };

  const values = (row, candidate) => {
    const { from } = chosen();
    return make("div", { class: "values" }, ...state.task.metrics.map((facts, metric) => {
      const here = score(row, candidate, metric), before = score(row, from, metric);
      const label = make("span", { text: `${facts.name} ${fixed(here, facts.decimals)} ` });
      if (candidate !== from && here !== null && before !== null) label.append(changeLabel(here - before, metric));
      return label;
    }));
  };
  const answerBlock = (row, candidate, references) => {
    const given = answer(row, candidate), head = make("h4", {}, swatch(candidate), data.candidates[candidate]);
    if (!given) return make("div", { class: "block" }, head, make("div", { class: "values", text: "no answer yet" }));
    const [place, finish, tokens, count, shots] = given;
    const size = finish === "choice" ? "chosen by likelihood" : `${count} words, ${tokens} tokens`;
    head.append(make("small", { text: shots ? `${size}, ${shots} shots` : size }));
    if (!text(place).trim()) head.append(make("span", { class: "flag", text: "empty" }));
    if (finish === "length") head.append(make("span", { class: "flag", text: "cut off at the token limit" }));
    return make("div", { class: "block" }, head, highlighted(text(place), references), values(row, candidate));
  };

  const drawExample = () => {
    const box = at("example"), one = state.order[state.place];
    if (!one) { box.replaceChildren(make("p", { class: "note", text: "No example has this text." })); return; }
    const { row } = one, references = row[3].map(text), wasOpen = box.querySelector("details")?.open ?? false;
    const previous = make("button", { type: "button", text: "Previous" }), next = make("button", { type: "button", text: "Next" });
    previous.disabled = state.place === 0;
    next.disabled = state.place === state.order.length - 1;
    previous.addEventListener("click", () => go(-1));
    next.addEventListener("click", () => go(1));
    const turns = [...row[1].map(([role, place]) => [role, text(place)]), ["user", text(row[2])]];
    const prompt = make("div", { class: "prompt", tabindex: "0" });
    for (const [role, said] of turns) {
      if (turns.length > 1) prompt.append(make("h5", { text: role }));
      prompt.append(make("div", { class: "text", text: said }));
    }
    const folded = make("details", {}, make("summary", { text: "Prompt" }), prompt);
    folded.open = wasOpen;
    const wanted = references.map((reference, i) => make("div", { class: "block" },
      make("h4", { text: references.length > 1 ? `Reference ${i + 1}` : "Reference" }), make("div", { class: "text", text: reference })));
    box.replaceChildren(
      make("div", { class: "head" }, make("h3", { text: row[0] }),
        make("div", { class: "steps-through" }, make("small", { text: `${state.place + 1} of ${state.order.length}` }), previous, next)),
      folded, ...wanted, ...data.candidates.map((_, candidate) => answerBlock(row, candidate, references)));
  };

  const select = (place) => {
    state.place = place;
    if (place >= state.shown) { state.shown = place + PAGE; drawList(); }
    at("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
    const button = at("list").querySelector(`[data-place="${place}"]`);
    if (button) {
      button.setAttribute("aria-current", "true");
      const box = at("list-box"), top = button.offsetTop - box.clientHeight / 3;
      if (button.offsetTop < box.scrollTop || button.offsetTop + button.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top;
    }
    drawExample();
  };
  const go = (by) => {
    const place = Math.min(Math.max(state.place + by, 0), state.order.length - 1);
    if (place !== state.place && place >= 0) select(place);
  };
  const refresh = () => { state.place = 0; state.shown = PAGE; at("list-box").scrollTop = 0; sort(); drawList(); drawExample(); };

  const openTask = () => {
    state.task = data.tasks[Number(at("task").value)];
    fill("metric", state.task.metrics.map((facts) => facts.name));
    at("to").value = String(state.task.best);
    refresh();
  };
  fill("task", data.tasks.map((task) => task.task));
  fill("from", data.candidates);
  fill("to", data.candidates);
  at("task-field").hidden = data.tasks.length < 2;
  at("task").addEventListener("change", openTask);
  for (const id of ["metric", "from", "to", "order"]) at(id).addEventListener("change", refresh);
  at("filter").addEventListener("input", refresh);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("more").addEventListener("click", () => { state.shown += PAGE; drawList(); });
  at("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) select(Number(button.dataset.place));
  });
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, .scroll, .recipe")) return;
    const seen = at("browser").getBoundingClientRect();
    if (seen.top > innerHeight || seen.bottom < 0) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) { event.preventDefault(); go(by); }
  });
  at("browser").hidden = false;
  openTask();
  document.documentElement.dataset.script = "ready";
})();
