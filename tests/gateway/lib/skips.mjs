// A reporter that ends the report with what was skipped and why, so that no skip goes by unseen.
export default async function* skips(events) {
  const skipped = [];
  for await (const { type, data } of events) {
    if (type === "test:pass" && data.skip !== undefined) skipped.push(`  ${data.name}: ${data.skip}\n`);
  }
  if (skipped.length > 0) yield `\nNOT TESTED HERE:\n${skipped.join("")}`;
}
