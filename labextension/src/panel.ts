import { Widget } from '@lumino/widgets';
import { Reader } from './reader';
import { Fault, Lost, Status, summary, Task } from './status';

/** The panel: the tasks with their progress, the error with its fix, and the packages that the next stop loses. */
export class Panel extends Widget {
  constructor(
    private _reader: Reader,
    private _openReport: (path: string) => void
  ) {
    super();
    this.id = 'nbprovision-panel';
    this.title.label = 'nbprovision';
    this.title.closable = true;
    this.addClass('nbprovision-panel');
    this.node.tabIndex = -1;
    this._reader.changed.connect(this._show, this);
    this._show();
  }

  dispose(): void {
    this._reader.changed.disconnect(this._show, this);
    super.dispose();
  }

  private _show(): void {
    const status = this._reader.status;
    const content = JSON.stringify(status);
    if (content !== this._content) {
      this._content = content;
      const scroll = this.node.scrollTop;
      this.node.replaceChildren(...(status === null ? [text('p', 'No status.')] : this._parts(status)));
      this.node.scrollTop = scroll;
    }
  }

  private _parts(status: Status): HTMLElement[] {
    const parts = [text('h2', `nbprovision: ${summary(status)}`, `nbprovision-state nbprovision-${status.state}`)];
    if (status.playbook) {
      parts.push(text('p', status.playbook, 'nbprovision-playbook'));
    }
    if (status.error !== null) {
      parts.push(error(status.error));
    }
    if (status.tasks.length) {
      parts.push(element('ul', 'nbprovision-tasks', ...status.tasks.map(row)));
    }
    status.lost.forEach(lost => parts.push(warning(lost)));
    if (status.report) {
      const button = element('button', 'jp-mod-styled jp-mod-accept', 'Open report');
      button.addEventListener('click', () => this._openReport(status.report));
      parts.push(button);
    }
    if (status.ended) {
      parts.push(text('p', `Ended: ${new Date(1000 * status.ended).toLocaleString()}`));
    }
    if (status.log) {
      parts.push(text('p', `Log: ${status.log}`, 'nbprovision-log'));
    }
    return parts;
  }

  private _content = '';
}

function row(task: Task): HTMLElement {
  const detail = [task.text, task.seconds ? `${task.seconds.toFixed(1)} s` : ''].filter(Boolean).join(', ');
  const parts: HTMLElement[] = [
    text('span', task.status, 'nbprovision-task-status'),
    text('span', task.name || task.task, 'nbprovision-task-name'),
    text('span', detail, 'nbprovision-task-detail')
  ];
  if (task.total > 0) {
    const bar = document.createElement('progress');
    bar.max = task.total;
    bar.value = Math.min(task.done, task.total);
    bar.setAttribute('aria-label', task.name);
    parts.push(bar);
  }
  return element('li', `nbprovision-task nbprovision-task-${task.status}`, ...parts);
}

function error(fault: Fault): HTMLElement {
  const parts = [text('p', [fault.task, fault.message].filter(Boolean).join(': '), 'nbprovision-message')];
  for (const [word, line] of [
    ['why', fault.why],
    ['fix', fault.fix],
    ['at', fault.place]
  ]) {
    if (line) {
      parts.push(text('p', `${word}: ${line}`, `nbprovision-${word}`));
    }
  }
  const section = element('section', 'nbprovision-error', ...parts);
  section.setAttribute('role', 'alert');
  return section;
}

function warning(lost: Lost): HTMLElement {
  return element(
    'section',
    'nbprovision-lost',
    text('p', `The next stop loses from ${lost.env}: ${lost.packages.join(', ')}.`),
    text('p', 'They were installed by hand. This command prints a playbook that keeps them:'),
    text('code', lost.command)
  );
}

/** An element with a text, which is never read as HTML. */
function text(tag: string, content: string, className = ''): HTMLElement {
  return element(tag, className, content);
}

function element(tag: string, className: string, ...content: (string | HTMLElement)[]): HTMLElement {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...content);
  return node;
}
