// Reads `POST /chat` as the source's page does: fetch, split at line ends, JSON.parse of each `data: `.
const response = await fetch(`${process.argv[2]}/chat`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ message: "Hello!" }),
});
const reader = response.body.getReader();
const decoder = new TextDecoder();
let text = "";
for (;;) {
  const { done, value } = await reader.read();
  if (done) break;
  text += decoder.decode(value, { stream: true });
}
for (const line of text.split("\n")) {
  if (line.startsWith("data: ")) {
    process.stdout.write(`${JSON.stringify(JSON.parse(line.slice(6)))}\n`);
  }
}
