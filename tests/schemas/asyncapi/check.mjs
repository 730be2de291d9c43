// node check.mjs MODULES DOCUMENT…: parses AsyncAPI documents; prints what is wrong with each as JSON,
// a list a document of {"severity": 0 (error) to 3, "code", "message", "path"}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, ...documents] = process.argv.slice(2);
const { Parser } = createRequire(modules + "/")("@asyncapi/parser");

const found = [];
for (const document of documents) {
  const { diagnostics } = await new Parser().parse(readFileSync(document, "utf8"));
  found.push(
    diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join(".") })),
  );
}
console.log(JSON.stringify(found));
