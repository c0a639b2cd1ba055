// The form of nbprovision-status.json: docs/status.schema.json. Nothing in the file is trusted to have the right type.

export type State = 'never' | 'working' | 'background' | 'failed' | 'ready';

export interface Fault {
  message: string;
  why: string;
  fix: string;
  task: string;
  place: string;
}

export interface Task {
  name: string;
  task: string;
  status: string;
  text: string;
  done: number;
  total: number;
  seconds: number;
}

export interface Lost {
  env: string;
  packages: string[];
  command: string;
}

export interface Status {
  state: State;
  playbook: string;
  tasks: Task[];
  error: Fault | null;
  log: string;
  report: string;
  ended: number;
  lost: Lost[];
}

const STATES = ['never', 'working', 'background', 'failed', 'ready'];
const FINISHED = ['ok', 'changed', 'skipped', 'failed'];

/** The status in a text; null if it is damaged, or of a form that this extension does not know. */
export function parse(text: string): Status | null {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return null;
  }
  const status = mapping(content);
  if (status.format !== 1 || !STATES.includes(string(status.state))) {
    return null;
  }
  return {
    state: status.state as State,
    playbook: string(status.playbook),
    tasks: list(status.tasks).map(task),
    error: status.error ? fault(status.error) : null,
    log: string(status.log),
    // Only a page of nbprovision's own is opened.
    report: /^nbprovision-report\/[\w-]+\.html$/.test(string(status.report)) ? string(status.report) : '',
    ended: number(status.ended),
    lost: list(status.lost).map(lost)
  };
}

/** Whether a run is active. */
export function isActive(status: Status): boolean {
  return status.state === 'working' || status.state === 'background';
}

/** The state in a few words. */
export function summary(status: Status): string {
  const done = status.tasks.filter(task => FINISHED.includes(task.status)).length;
  const progress = status.tasks.length ? ` ${done} of ${status.tasks.length}` : '';
  switch (status.state) {
    case 'ready':
      return 'ready';
    case 'working':
      return `working${progress}`;
    case 'background':
      return `in the background${progress}`;
    case 'failed':
      return 'failed';
    default:
      return 'never run';
  }
}

/** The status of a run that has not written for a while: its process was killed, or the disk is full. */
export function silent(status: Status): Status {
  const error = {
    message: 'there is no news of the run',
    why: 'its process was killed, or the disk is full',
    fix: 'type in a terminal: nbprovision status',
    task: '',
    place: ''
  };
  return { ...status, state: 'failed', error };
}

function mapping(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function string(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function number(value: unknown): number {
  return typeof value === 'number' && isFinite(value) ? value : 0;
}

function fault(value: unknown): Fault {
  const { message, why, fix, task, place } = mapping(value);
  return { message: string(message), why: string(why), fix: string(fix), task: string(task), place: string(place) };
}

function task(value: unknown): Task {
  const entry = mapping(value);
  return {
    name: string(entry.name),
    task: string(entry.task),
    status: string(entry.status),
    text: string(entry.text),
    done: number(entry.done),
    total: number(entry.total),
    seconds: number(entry.seconds)
  };
}

function lost(value: unknown): Lost {
  const { env, packages, command } = mapping(value);
  return { env: string(env), packages: list(packages).map(string), command: string(command) };
}
