// A strict JSON reader: whole numbers are exact, and a field that comes twice is an error.

export type Json = null | boolean | bigint | string | Json[] | Map<string, Json>;

/** The text is not the JSON that is read here. */
export class JsonError extends Error {}

/** Deeper than any file that is read here; it keeps a hostile text from exhausting the stack. */
const DEPTH_MAX = 16;

/** No number of 64 bits has more digits. */
const DIGITS_MAX = 20;

const WHITE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES: Record<string, string> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** Reads one value and nothing after it. */
export function parseJson(text: string): Json {
  const parser = new Parser(text);
  const value = parser.value(0);
  parser.end();
  return value;
}

class Parser {
  private at = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  value(depth: number): Json {
    if (depth > DEPTH_MAX) this.fail('too deep');
    this.white();
    const first = this.text[this.at];
    if (first === '{') return this.object(depth);
    if (first === '[') return this.array(depth);
    if (first === '"') return this.string();
    if (this.skip('null')) return null;
    if (this.skip('true')) return true;
    if (this.skip('false')) return false;
    return this.number();
  }

  end(): void {
    this.white();
    if (this.at !== this.text.length) this.fail('text after the value');
  }

  private object(depth: number): Map<string, Json> {
    const fields = new Map<string, Json>();
    this.at += 1;
    this.white();
    if (this.skip('}')) return fields;
    do {
      this.white();
      const name = this.string();
      if (fields.has(name)) this.fail(`field ${JSON.stringify(name)} comes twice`);
      this.white();
      this.need(':');
      fields.set(name, this.value(depth + 1));
      this.white();
    } while (this.skip(','));
    this.need('}');
    return fields;
  }

  private array(depth: number): Json[] {
    const items: Json[] = [];
    this.at += 1;
    this.white();
    if (this.skip(']')) return items;
    do {
      items.push(this.value(depth + 1));
      this.white();
    } while (this.skip(','));
    this.need(']');
    return items;
  }

  private string(): string {
    this.need('"');
    let value = '';
    for (;;) {
      value += this.match(PLAIN);
      if (this.skip('"')) return value;
      this.need('\\');
      const letter = this.text[this.at] ?? '';
      this.at += 1;
      if (letter === 'u') {
        const digits = this.text.slice(this.at, this.at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail('bad escape');
        value += String.fromCharCode(Number.parseInt(digits, 16));
        this.at += 4;
      } else {
        value += ESCAPES[letter] ?? this.fail('bad escape');
      }
    }
  }

  private number(): bigint {
    const digits = this.match(NUMBER);
    if (digits === '') this.fail('no value');
    if (!/^[0-9]+$/.test(digits) || digits.length > DIGITS_MAX) {
      this.fail('not a whole number of 64 bits');
    }
    return BigInt(digits);
  }

  private white(): void {
    this.match(WHITE);
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? '';
    this.at += found.length;
    return found;
  }

  private skip(word: string): boolean {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private need(word: string): void {
    if (!this.skip(word)) this.fail(`expected ${word}`);
  }

  private fail(reason: string): never {
    throw new JsonError(`at character ${this.at}: ${reason}`);
  }
}
