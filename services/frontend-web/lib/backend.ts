/** The backend's REST API as this page needs it. Runs on the server only. */

export type Task = { id: number; title: string; done: boolean }

/** The most characters the backend takes in a title. */
export const MAX_TITLE_LENGTH = 200

const TIMEOUT_MS = 5_000

/** The backend did not do what it was asked. The message is a sentence for the person at the page. */
export class BackendError extends Error {}

/** The tasks, in the order they were added. */
export async function listTasks(): Promise<Task[]> {
  const response = await request('/tasks')
  const tasks: unknown = await response.json().catch(() => null)
  if (!Array.isArray(tasks)) throw new BackendError('The task service gave an answer that is no list of tasks.')
  return tasks as Task[]
}

export async function addTask(title: string): Promise<void> {
  await request('/tasks', { method: 'POST', body: JSON.stringify({ title }) })
}

export async function completeTask(id: number): Promise<void> {
  await request(`/tasks/${id}`, { method: 'PATCH', body: JSON.stringify({ done: true }) })
}

export async function deleteTask(id: number): Promise<void> {
  await request(`/tasks/${id}`, { method: 'DELETE' })
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  // Read for each request: the image is built once and told at run time where its backend is.
  const base = process.env.BACKEND_URL || 'http://backend:8000'
  let response: Response
  try {
    response = await fetch(new URL(path, base), {
      ...init,
      headers: { 'content-type': 'application/json' },
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (error) {
    console.error('backend.unreachable', { path, error })
    throw new BackendError('The task service does not answer. Try again in a moment.')
  }
  if (!response.ok) {
    console.error('backend.refused', { path, status: response.status })
    throw new BackendError(await explain(response))
  }
  return response
}

/** One sentence out of FastAPI's `{"detail": "..."}` or `{"detail": [{"msg": "..."}]}`. */
async function explain(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => null)
  const detail = body !== null && typeof body === 'object' && 'detail' in body ? body.detail : null
  const message = Array.isArray(detail) ? detail[0]?.msg : detail
  return `The task service refused: ${typeof message === 'string' ? message : `HTTP ${response.status}`}.`
}
