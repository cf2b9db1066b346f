// How numbers, times and kinds are worded.

import { failures, known, language, t } from "./language.js";

/** 75.5 -> "1:15" */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** A time within a clip, to a tenth where it is short: 1.25 -> "1.3 s" */
export function moment(seconds) {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds);
}

export function took(seconds) {
  return seconds < 0.0095 ? `${(seconds * 1000).toFixed(0)} ms` : `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}

export function day(seconds) {
  return new Date(seconds * 1000).toLocaleDateString(language, { year: "numeric", month: "short", day: "numeric" });
}

export function bytes(number) {
  return number < 1024 ** 2 ? `${Math.ceil(number / 1024)} kB` : `${(number / 1024 ** 2).toFixed(number < 10 * 1024 ** 2 ? 1 : 0)} MB`;
}

/** Whether an item is what is said in an audio file: a text with times. */
export function isHeard({ modality, end_s }) {
  return modality === "text" && end_s !== null;
}

/** What an item is, in a few words: "Page", "Page 2 of 3", "Video, 0:04", "Audio, 0:00–0:20". */
export function kindOf(hit) {
  const kind = t(isHeard(hit) ? "audio" : hit.modality);
  if (hit.num_pages > 1) return t("page_of", { page: hit.page, pages: hit.num_pages });
  if (hit.unit && hit.end_s !== null) return t("timed", { kind, time: `${clock(hit.start_s)}–${clock(hit.end_s)}` });
  if (hit.unit) return t("timed", { kind, time: `${hit.unit}/${hit.num_units}` });
  return hit.duration_s === null ? kind : t("timed", { kind, time: clock(hit.duration_s) });
}

/** Why a recommended item is here, in this language, if one liked item says so. */
export function reasonOf(hit, liked) {
  if (!hit.reason || language === "en" || liked.length !== 1) return hit.reason ?? "";
  return hit.shared.length ? t("reason_shared", { name: liked[0], shared: hit.shared.join(t("comma")) }) : t("reason_alike", { name: liked[0] });
}

/** Why there is no T-CoT: the words of a reason's code, or what is noted, as it is. */
export function failureWords(reason) {
  return failures(reason) ?? reason;
}

/** What went wrong, as a sentence for a person; without the name of a file that is said already. */
export function sentence(error, name = "") {
  const text = (error.code && known(`problem_${error.code}`)) || error.message.replace(`${name}: `, "");
  const words = text.charAt(0).toUpperCase() + text.slice(1);
  const later = error.status === 429 ? ` ${t("try_again", { n: error.retryAfter ?? 1 })}` : "";
  return (/[.!?。！？]$/.test(words) ? words : `${words}.`) + later;
}
