// Takes the steps of a script one by one; the tests read a line of each.
export async function take(steps, ...args) {
  const label = args.length ? ` (${args.join()})` : "";
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step(...args);
      console.log(`ok ${name}${label}`);
    } catch (error) {
      console.log(`not ok ${name}${label}\n${error.stack}`);
      process.exitCode = 1;
    }
  }
}
