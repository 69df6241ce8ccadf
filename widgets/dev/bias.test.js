import assert from "node:assert/strict";
import { test } from "node:test";

import { bias } from "../shared/bias.js";
import { connect } from "../shared/kernel.js";
import { fakeModel } from "./fake_model.js";

test("a token is banned or favoured by one request, and who does not listen says so", async () => {
  const heard = [];
  let listening = true;
  const model = fakeModel(
    {},
    {
      bias({ token, ban }) {
        if (!listening) throw new Error("nothing listens to bias");
        heard.push([token, ban]);
        return { said: ban ? "allowed again" : "" };
      },
    },
  );
  const line = connect(model);
  assert.equal(await bias(line, 5, true), "allowed again");
  assert.equal(await bias(line, 7, false), "favoured");
  listening = false;
  await assert.rejects(bias(line, 5, true), /nothing listens/);
  assert.deepEqual(heard, [
    [5, true],
    [7, false],
  ]);
  line.close();
});
