/** The backend's MCP tools. Runs on the server only. */

import { Client, SdkError, SdkErrorCode, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

export type Task = { id: number; title: string; done: boolean }

const TIMEOUT_MS = 5_000

/** The backend could not be asked, or gave no usable answer. */
export class BackendError extends Error {
  constructor(
    message: string,
    /** 503: nobody answered, a retry may help. 502: the answer was no good. */
    readonly status: 502 | 503,
  ) {
    super(message)
  }
}

/** The backend understood and said no; its message is for the person at the chat. */
export class Refused extends Error {}

export async function addTask(title: string): Promise<Task> {
  return (await callTool('add_task', { title })) as Task
}

export async function listTasks(): Promise<Task[]> {
  return ((await callTool('list_tasks', {})) as { result: Task[] }).result
}

export async function completeTask(id: number): Promise<Task> {
  return (await callTool('complete_task', { task_id: id })) as Task
}

export async function deleteTask(id: number): Promise<void> {
  await callTool('delete_task', { task_id: id })
}

/** One tool call on a connection of its own: the server keeps no sessions, so there is none to reuse. */
async function callTool(name: string, args: Record<string, unknown>): Promise<unknown> {
  // Read for each request: the image is built once and told at run time where its backend is.
  const url = new URL('/mcp', process.env.BACKEND_URL || 'http://backend:8000')
  const client = new Client({ name: 'tasks-frontend-chatbot', version: '0.1.0' })
  try {
    await client.connect(new StreamableHTTPClientTransport(url), { timeout: TIMEOUT_MS })
    const result = await client.callTool({ name, arguments: args }, { timeout: TIMEOUT_MS })
    if (result.isError) throw new Refused(reason(result.content))
    return result.structuredContent
  } catch (error) {
    if (error instanceof Refused) throw error
    console.error('backend.failed', { tool: name, error })
    throw isUnreachable(error)
      ? new BackendError('The task service does not answer. Try again in a moment.', 503)
      : new BackendError('The task service had a problem. Try again in a moment.', 502)
  } finally {
    await client.close()
  }
}

/** The tool's own words, without the prefix the Python SDK sets before them. */
function reason(content: { type: string; text?: string }[]): string {
  const text = content.find((block) => block.type === 'text')?.text ?? 'no reason given'
  return text.replace(/^Error executing tool \w+: /, '')
}

/** fetch throws a TypeError when there is no connection; the SDK has a code of its own for silence. */
function isUnreachable(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof SdkError && error.code === SdkErrorCode.RequestTimeout)
}
