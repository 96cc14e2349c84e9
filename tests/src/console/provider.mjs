// A certified OpenID Connect provider (npm: oidc-provider) with a few people. Its sign-in page is
// the package's own one for development: any password does.
import fs from "node:fs";
import https from "node:https";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, issuer, cert, key, redirect, secret] = process.argv.slice(2);
const require = createRequire(modules + "/package.json");
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const groups = { ann: ["staff", "security"], bob: ["security"], vic: ["audit"], olaf: ["it"], eve: [] };
const provider = new Provider(issuer, {
  clients: [{ client_id: "enforcer", client_secret: secret, redirect_uris: [redirect] }],
  pkce: { required: () => true },
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "email", "groups"],
  features: { devInteractions: { enabled: true } },
  cookies: { keys: ["a key of the test"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.org`, email_verified: true, groups: groups[id] ?? [] }),
  }),
});
const tls = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
const { hostname, port } = new URL(issuer);
https.createServer(tls, provider.callback()).listen(Number(port), hostname, () => console.log("ready"));
