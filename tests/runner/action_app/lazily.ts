let count = 0;
export const bump = () => void count++;
export const read = () => count;
