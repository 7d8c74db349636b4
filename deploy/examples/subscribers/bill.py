"""Bill tokens per customer, each attempt once: `python bill.py worker`. The metadata of runs names the `customer`."""

import sqlite3

import threadlog

app = threadlog.subscriber("bill-tokens")
bills = sqlite3.connect("bills.sqlite")
bills.executescript("""
    CREATE TABLE IF NOT EXISTS runs (run PRIMARY KEY, customer);
    CREATE TABLE IF NOT EXISTS bills (part, place, model, customer, tokens, PRIMARY KEY (part, place, model));
""")


@app.agent(threadlog.events)
async def bill(records):
    async for record in records:
        with bills:  # a transaction; a record that comes again changes nothing
            for event in record.events:
                if event["type"] == "run.created":
                    customer = event["run"].get("metadata", {}).get("customer", "nobody")
                    bills.execute("INSERT OR IGNORE INTO runs VALUES (?, ?)", (event["run_id"], customer))
                for model, used in event.get("usage", {}).items():
                    bills.execute(
                        "INSERT OR IGNORE INTO bills SELECT ?, ?, ?, customer, ? FROM runs WHERE run = ?",
                        (*record.position, model, used.get("total_tokens", 0), event["run_id"]),
                    )


if __name__ == "__main__":
    app.main()
