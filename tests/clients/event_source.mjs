// A stock EventSource (npm `eventsource`) whose page never closes it, one for each URL. Prints a line
// of JSON for each thing that happens; ends when all are closed by what the server answered.
import { EventSource } from "eventsource";

const NAMED = ["content", "tool_start", "tool_done", "done"];

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const awake = setInterval(() => {}, 1000); // a client that waits to come back keeps no process alive
await Promise.all(
  process.argv.slice(2).map(
    (url, source) =>
      new Promise((resolve) => {
        const events = new EventSource(url);
        events.onopen = () => say({ source, open: true });
        for (const name of ["message", ...NAMED]) {
          events.addEventListener(name, ({ data, lastEventId }) =>
            say({ source, name, data, lastEventId }),
          );
        }
        events.addEventListener("error", ({ code, data }) => {
          say({ source, error: true, code, data, state: events.readyState });
          if (events.readyState === EventSource.CLOSED) resolve();
        });
      }),
  ),
);
clearInterval(awake);
