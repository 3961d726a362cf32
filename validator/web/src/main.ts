// The entry of the command line; apart from check.ts so that tests can import that file.

import { main } from './check.js';

await main();
