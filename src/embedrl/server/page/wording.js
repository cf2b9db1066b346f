// How numbers, times and kinds are worded.

export const KINDS = { image: "Image", video: "Video", page: "Page", text: "Text" };

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

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
  return new Date(seconds * 1000).toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
}

export function megabytes(bytes) {
  return `${Math.floor(bytes / 1024 ** 2)} MB`;
}

/** What an item is, in a few words: "Page", "Page 2 of 3", "Video, 0:04". */
export function kindOf(hit) {
  if (hit.num_pages > 1) return `Page ${hit.page} of ${hit.num_pages}`;
  return hit.duration_s === null ? KINDS[hit.modality] : `${KINDS[hit.modality]}, ${clock(hit.duration_s)}`;
}
