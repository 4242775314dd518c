// A stock EventSource (npm `eventsource`) for each URL, used as Chronos' own page does: `onmessage`,
// `JSON.parse(event.data)`, `data.type`. Prints a line of JSON for each thing that happens. A stream
// is closed by an event of type `stop`, or for good by what the server answers.
import { EventSource } from "eventsource";

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// The client's own timer, until it connects again, does not keep the process.
const alive = setInterval(() => {}, 1000);

await Promise.all(
  process.argv.slice(2).map(
    (url, source) =>
      new Promise((resolve) => {
        const events = new EventSource(url);
        events.onopen = () => say({ source, open: true });
        events.onmessage = ({ data, lastEventId }) => {
          const { type, data: told } = JSON.parse(data);
          say({ source, type, data: told, lastEventId });
          if (type === "stop") {
            events.close();
            resolve();
          }
        };
        events.onerror = ({ code }) => {
          say({ source, error: true, code });
          if (events.readyState === EventSource.CLOSED) resolve();
        };
      }),
  ),
);
clearInterval(alive);
