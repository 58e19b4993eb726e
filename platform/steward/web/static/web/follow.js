// What a run measures, asked for until the run is over.
//
//   steward.follow(source, everyMs, (curves, isFirst) => …)
//
// Guarantees that each answer says only what lies behind the place that the last one named, so that a reload, a sleep or
// a lost connection costs nothing; who is signed out meanwhile comes to the sign-in page. Does not keep what was said.
(() => {
  "use strict";
  const HEADERS = { Accept: "application/json", "Steward-Background": "1" };

  async function asked(address) {
    try {
      const answer = await fetch(address, { headers: HEADERS });
      if (answer.status === 401) location.reload();
      return answer.ok ? await answer.json() : null;
    } catch {
      return null; // The connection is gone for now; the next round asks again from the same place.
    }
  }

  async function follow(source, everyMs, take, after = null) {
    const news = await asked(after === null ? source : `${source}?after=${after}`);
    if (!news?.is_over) setTimeout(follow, everyMs, source, everyMs, take, news?.after ?? after);
    if (news) take(news.curves, after === null);
  }

  window.steward = { ...window.steward, follow };
})();
