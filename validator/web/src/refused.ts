// The one error by which the verifier says no: its reason is short and stays the same.

export class Refused extends Error {
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.name = 'Refused';
    this.reason = reason;
  }
}

/** Refuses unless the condition holds. */
export function must(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new Refused(reason);
}
