import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { IStatusBar } from '@jupyterlab/statusbar';
import { IDisposable } from '@lumino/disposable';
import { Widget } from '@lumino/widgets';
import { Panel } from './panel';
import { Reader } from './reader';
import { summary } from './status';

const OPEN = 'nbprovision:open';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'nbprovision:status',
  description: 'The state of nbprovision: a status bar item, a panel, and a card in the launcher.',
  autoStart: true,
  optional: [IStatusBar, ILauncher],
  activate: (app: JupyterFrontEnd, statusBar: IStatusBar | null, launcher: ILauncher | null) => {
    const { commands, serviceManager, shell } = app;
    const reader = new Reader(serviceManager.contents);
    let panel: Panel | null = null;

    const openReport = (path: string) => {
      void commands.execute('docmanager:open', { path, factory: 'HTML Viewer' });
    };
    commands.addCommand(OPEN, {
      label: args =>
        args.isLauncher && reader.status ? `nbprovision: ${summary(reader.status)}` : 'Show the State of nbprovision',
      caption: 'Show the tasks of nbprovision and their progress',
      isVisible: () => reader.status !== null,
      iconClass: 'nbprovision-icon',
      execute: () => {
        if (panel === null || panel.isDisposed) {
          panel = new Panel(reader, openReport);
          shell.add(panel, 'right', { rank: 1000 });
        }
        shell.activateById(panel.id);
      }
    });

    const item = new Widget({ node: document.createElement('button') });
    item.addClass('nbprovision-item');
    item.node.addEventListener('click', () => void commands.execute(OPEN));
    statusBar?.registerStatusItem('nbprovision:status', {
      item,
      align: 'left',
      rank: 500,
      isActive: () => reader.status !== null,
      activeStateChanged: reader.changed
    });

    let card: IDisposable | null = null;
    let cardText = '';
    reader.changed.connect(() => {
      const status = reader.status;
      const text = status === null ? '' : `nbprovision: ${summary(status)}`;
      item.node.textContent = text + (status?.lost.length ? ' (unsaved packages)' : '');
      item.node.title = status?.error?.message ?? status?.playbook ?? '';
      item.node.classList.toggle('nbprovision-failed', status?.state === 'failed');
      const wanted = status === null || status.state === 'ready' ? '' : text;
      if (wanted !== cardText) {
        card?.dispose();
        card = wanted && launcher ? launcher.add({ command: OPEN, args: { isLauncher: true }, category: 'Other' }) : null;
        cardText = wanted;
      }
      commands.notifyCommandChanged(OPEN);
    });
  }
};

export default plugin;
