import { Contents } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';
import { isActive, parse, silent, Status } from './status';

const PATH = 'nbprovision-status.json';
const ACTIVE = 2000; // milliseconds between two requests while a run is active
const IDLE = 30000;
const SILENCE = 60000; // an active run writes twice a second

/** Reads the status by the contents API for as long as the page is visible. */
export class Reader {
  constructor(private _contents: Contents.IManager) {
    document.addEventListener('visibilitychange', () => this._visibilityChanged());
    this._visibilityChanged();
  }

  /** The last status; null if the file is missing or damaged. */
  get status(): Status | null {
    return this._status;
  }

  /** Emitted after each request. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  private _visibilityChanged(): void {
    window.clearTimeout(this._timer);
    if (!document.hidden) {
      void this._read();
    }
  }

  private async _read(): Promise<void> {
    if (this._reading) {
      return;
    }
    this._reading = true;
    try {
      const model = await this._contents.get(PATH, { type: 'file', format: 'text', content: true });
      this._status = this._judged(String(model.content));
    } catch {
      this._status = null; // no such file, or the server is gone
    }
    this._reading = false;
    const active = this._status !== null && isActive(this._status);
    this._changed.emit();
    window.clearTimeout(this._timer);
    if (!document.hidden) {
      this._timer = window.setTimeout(() => void this._read(), active ? ACTIVE : IDLE);
    }
  }

  /** Silence is measured by this page's clock, since the server's may differ, and only while the page is visible. */
  private _judged(text: string): Status | null {
    const status = parse(text);
    const now = Date.now();
    if (text !== this._text || now - this._looked > SILENCE) {
      this._text = text;
      this._news = now;
    }
    this._looked = now;
    return status !== null && isActive(status) && now - this._news >= SILENCE ? silent(status) : status;
  }

  private _status: Status | null = null;
  private _reading = false;
  private _timer = 0;
  private _text = '';
  private _news = 0;
  private _looked = 0;
  private _changed = new Signal<this, void>(this);
}
